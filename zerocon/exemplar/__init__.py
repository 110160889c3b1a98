"""Exemplar-based image translation: the structure of one image in the appearance of another.

A construction of PROMOTE (Zhong et al., ACM Multimedia 2024, pp. 3313-3322) from its abstract; see
the page "Translate" of the documentation for what is the paper's and what is ours.
"""
