"""Stage 5: a bag of tokens becomes logits and attention."""
