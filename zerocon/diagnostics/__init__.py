"""What happened in an edit and what it costs: explanations, plots, step images, cost, doctor."""
