"""What a model does in a tracker: MOTChallenge sequences, association, IDF1 and HOTA."""
