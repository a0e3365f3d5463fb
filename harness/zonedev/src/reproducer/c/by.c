/* Whether huge entries fit a mapping. */
enum { BY_PMDS = 0, BY_PTES = 4096 };
