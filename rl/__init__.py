"""Teachers and the data they leave: games, Double DQN, replay datasets, scores."""
