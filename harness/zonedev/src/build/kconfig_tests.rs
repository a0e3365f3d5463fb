use super::*;
use crate::build::config::parse_config;

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Kconfig) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    for (path, text) in files {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    }
    let kconfig = Kconfig::read(root, "x86");
    (dir, kconfig)
}

const TOP: &str = r#"
mainmenu "test"
config CC_IS_GCC
	def_bool $(success,true)
source "arch/$(SRCARCH)/Kconfig"
source "Kconfig"
menu "Memory"
	depends on MMU
source "mm/Kconfig"
endmenu
config SMP
	bool "Symmetric multi-processing"
	help
	  Says depends on NOTHING, and
	    config NOT_A_SYMBOL
	  goes on.
config NUMA
	bool "NUMA" if EXPERT
	select ACPI_NUMA if ACPI
	select SMP
"#;

const MM: &str = r#"
if ZONE # the zone
config DEVICE_PRIVATE
	bool "Unaddressable device memory"
	depends on ZONE_DEVICE && \
		!BROKEN
	depends on SPARSEMEM || FLATMEM
endif
choice
	prompt "pick"
config PICK_A
	bool "a"
config PICK_B
	bool "b"
endchoice
config ZONE_DEVICE
	bool
config GUP_TEST
	bool "gup"
"#;

fn why(symbol: &str, wanted: &str, config: &str) -> String {
    let (_dir, kconfig) = tree(&[
        ("Kconfig", TOP),
        ("mm/Kconfig", MM),
        ("arch/x86/Kconfig", "config MMU\n\tdef_bool y\n"),
        ("arch/arm/Kconfig", "config ARM\n\tdef_bool y\n"),
    ]);
    kconfig.why_lost(symbol, wanted, &parse_config(config))
}

#[test]
fn every_reason_in_words() {
    let all = "CONFIG_MMU=y\nCONFIG_ZONE=y\nCONFIG_ZONE_DEVICE=y\nCONFIG_FLATMEM=y\n";
    let mut seen = String::new();
    for (symbol, wanted, config) in [
        ("GUP_TESTS", "y", all),
        ("WHOLLY_ELSE", "y", all),
        ("ARM", "y", all),
        ("NOT_A_SYMBOL", "y", all),
        (
            "DEVICE_PRIVATE",
            "y",
            "CONFIG_ZONE=y\nCONFIG_ZONE_DEVICE=y\n",
        ),
        (
            "DEVICE_PRIVATE",
            "y",
            "CONFIG_MMU=y\nCONFIG_ZONE_DEVICE=y\n",
        ),
        (
            "DEVICE_PRIVATE",
            "y",
            "CONFIG_MMU=y\nCONFIG_ZONE=y\nCONFIG_FLATMEM=y\n",
        ),
        (
            "DEVICE_PRIVATE",
            "y",
            "CONFIG_MMU=y\nCONFIG_ZONE=y\nCONFIG_ZONE_DEVICE=y\n",
        ),
        ("DEVICE_PRIVATE", "m", all),
        ("ZONE_DEVICE", "y", all),
        ("PICK_A", "y", all),
        ("NUMA", "y", all),
        ("SMP", "n", "CONFIG_NUMA=y\nCONFIG_SMP=y\n"),
        ("MMU", "n", "CONFIG_MMU=y\n"),
    ] {
        seen.push_str(&format!(
            "{symbol}={wanted}: {}\n",
            why(symbol, wanted, config)
        ));
    }
    insta::assert_snapshot!(seen);
}
