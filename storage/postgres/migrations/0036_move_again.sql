-- The archive finds rows by the numbers of their devices from now on: the mover copies what the journal has once more.

UPDATE archiving SET moved = '0';
