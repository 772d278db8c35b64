"""What a run leaves to look at: the learning curve and a page with the trajectories before and after training."""
