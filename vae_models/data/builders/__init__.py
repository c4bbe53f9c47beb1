"""From the files of a data set, or its rule, to its three splits."""
