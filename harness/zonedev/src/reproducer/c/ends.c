enum { HEAD = 1, TAIL = 2 };
