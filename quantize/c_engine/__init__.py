"""A compiled int8 engine: from a QDQ file to one C source without dependencies.

``qdq_reader`` reads the file as a typed ``network``, ``fusion`` finds what is computed together,
``lowering`` makes layers in fixed-point arithmetic of it, ``arena`` plans their memory, and
``source`` writes the folder. The kernels are the files in ``c/``.
"""
