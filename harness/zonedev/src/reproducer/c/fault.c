static __thread sigjmp_buf fault;
static __thread volatile sig_atomic_t armed;

static void caught(int sig)
{
	if (!armed) {
		signal(sig, SIG_DFL);
		return;
	}
	armed = 0;
	siglongjmp(fault, sig);
}

static void catch_faults(void)
{
	struct sigaction action = { .sa_handler = caught, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}
