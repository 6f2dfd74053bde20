"""Kernels of notebooks in sandboxes, for JupyterLab, nbclient, papermill and others of Jupyter's clients."""
