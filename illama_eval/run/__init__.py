"""One evaluation: images through subjects into sums, rows and a run directory."""
