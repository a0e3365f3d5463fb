static __thread uint32_t race_round;
