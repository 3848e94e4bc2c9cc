"""Student -> chip -> game: the compiler, the emulators and the real-time loop."""
