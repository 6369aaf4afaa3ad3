"""When to train on real streams: what each family of policies gets for how many trainings."""
