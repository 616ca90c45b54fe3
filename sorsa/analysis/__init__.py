"""What training did to the weights (paper section 6.1): snapshots taken on the way, and the spectra computed from them.

snapshots.py   files of what was trained at chosen steps, written during training
matrices.py    from snapshots back to the weight `W_t` of each adapted matrix
spectra.py     dSigma, dD, condition numbers, effective rank of one matrix
drift.py       `run.py --name X --analyze`: all matrices in several processes, resumable
theory/        the statements of section 5, checked numerically
"""
