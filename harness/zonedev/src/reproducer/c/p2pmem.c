/* The file of the PCI device that offers peer-to-peer memory. */
static const char *p2pmem(void)
{
	static glob_t found;

	if (glob("/sys/bus/pci/devices/*/p2pmem/allocate", 0, NULL, &found))
		return "";
	return found.gl_pathv[0];
}
