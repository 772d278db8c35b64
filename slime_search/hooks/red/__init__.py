"""RED: demonstrations mixed into reinforcement learning (Guan et al., arXiv 2508.16677)."""
