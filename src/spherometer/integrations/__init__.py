"""Spherometer inside other libraries. Import the module you need; each loads its library and nothing else."""
