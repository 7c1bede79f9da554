"""The tables of a recipe that have keys of their own."""
