"""Models made elsewhere: fitted objects of scikit-learn and torch modules as models of ours.

Objects are read, never files: nothing is unpickled, and predicting calls none of their code.
"""
