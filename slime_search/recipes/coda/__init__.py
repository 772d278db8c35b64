"""CoDA: one model plans and executes, and is trained in both roles (arXiv 2512.12716)."""
