"""A finished run as its folder describes it: results, tables, curves."""
