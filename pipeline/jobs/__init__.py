"""The stages of a recipe's job, one-shot or iterated, and what is kept of them."""
