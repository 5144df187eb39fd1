"""Parts of self-supervised pretraining: front ends, span masks, negatives, logits."""
