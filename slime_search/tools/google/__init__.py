"""Google search through serper.dev, by its snippets or by the pages that it finds."""
