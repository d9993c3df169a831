"""Commands within one node and across two: how long they take, how many there are in a second, what they cost."""
