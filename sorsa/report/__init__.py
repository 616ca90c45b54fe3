"""What the experiments show: run records, tables, figures and claims, as one report."""
