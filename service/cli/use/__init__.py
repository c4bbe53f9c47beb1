"""Commands that use a trained model.

    options.py   the options that several of them take
    models.py    from MODEL to a model in memory
    source.py    from DATA to batches that the model reads
    work.py      batches one after another, with progress
    files.py     results in files, whole or not at all
    tables.py    encode, score: of every datum a row
    anomalies.py scores as detectors of anomalies
    pictures.py  reconstruct, sample, interpolate, traverse: to look at
    card.py      export, card: elsewhere

The modules with commands are imported whenever the command line is: they load nothing heavy before one is used.
"""
