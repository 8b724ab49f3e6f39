"""Reports: the results in a run folder, and tables and curves of them."""
