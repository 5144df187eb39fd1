"""Files in the output folder of a run that several parts of the package read."""

# Names the recipe and the folder of its speech: see training/origin.py.
ORIGIN = "recipe.json"
