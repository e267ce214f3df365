"""Open-vocabulary classification from a closed classifier: weight rows predicted from texts and WordNet."""
