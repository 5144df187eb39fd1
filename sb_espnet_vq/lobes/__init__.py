"""The SpeechBrain side: drop-in modules, and what the recipes are made of."""
