"""Models that Triton servers run, behind the same ``Backend`` as the embedded engines. Needs the extra ``triton``.

``channel`` speaks to one server, ``wire`` turns tensors into messages, ``memory`` shares large ones, ``replica`` knows
what one server can do now, ``fleet`` chooses between servers; ``loading``, ``uses`` and ``health`` see to it that they
have what is wanted; ``remote`` is one served version, and ``backend`` ties them to the repository. Nothing here is
imported unless ``SIGHTLINE_RUNTIME=triton``.
"""
