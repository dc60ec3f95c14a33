"""Small inputs from the field, one per fault, each with the value that is right and why."""
