"""What the layers of the tests share: real programs, models, traffic. A layer imports no other layer."""
