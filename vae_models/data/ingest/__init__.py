"""Decodes what users have (pictures, arrays, tables, text, videos) into the canonical form that `stored` reads."""
