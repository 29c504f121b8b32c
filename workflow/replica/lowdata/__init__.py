"""Learning from few labels: labelled sets, losses, queries, and the runs made of them."""
