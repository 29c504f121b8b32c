"""What a user writes: the files of the studies, the configuration, and what is wrong in them."""
