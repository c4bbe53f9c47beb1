"""Making Ray do what SQL says, and what follows when an attempt is over."""
