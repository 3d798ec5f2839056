"""What depends on the number of the update alone: the weight of the KL term, and which parts move."""
