"""A long run in which everything goes wrong all the time, and nothing may pile up."""
