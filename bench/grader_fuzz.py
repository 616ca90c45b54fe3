def fuzz(n): pass
