"""Teacher -> student: trinary weights, binary activations, one integer leak a neuron."""
