//! What the kernel has: control groups, sandboxes, packet filters.

use std::fs;
use std::path::Path;

use super::{Finding, Looked};

/// Looks at the running kernel.
pub fn look() -> Vec<Finding> {
    let modules = Modules::of_this_kernel();
    vec![
        Finding::new(
            "cgroups",
            cgroups(Path::new("/sys/fs/cgroup")),
            "nothing yet; limits on the memory and time of plugins in processes of their own will need it",
            "mount cgroup2 on /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Finding::new(
            "landlock",
            security_module("landlock", fs::read_to_string("/sys/kernel/security/lsm")),
            "nothing yet; plugins in jailed processes will need it to be kept from files",
            "use a kernel from 5.13 up with CONFIG_SECURITY_LANDLOCK, and landlock in lsm=",
        ),
        Finding::new(
            "seccomp",
            seccomp(
                &fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default(),
            ),
            "nothing yet; plugins in jailed processes will need it to be kept from system calls",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        Finding::new(
            "nftables",
            modules.have("nf_tables"),
            "nothing yet; faults that cut services off from each other will need it",
            "use a kernel with CONFIG_NF_TABLES, and `modprobe nf_tables`",
        ),
        Finding::new(
            "netem",
            modules.have("sch_netem"),
            "nothing yet; faults that delay or lose packets will need it",
            "use a kernel with CONFIG_NET_SCH_NETEM, and `modprobe sch_netem`",
        ),
    ]
}

fn cgroups(mount: &Path) -> Looked {
    if let Ok(controllers) = fs::read_to_string(mount.join("cgroup.controllers")) {
        return Ok(format!("version 2, with {}", controllers.trim()));
    }
    let version_1 = mount.join("memory").is_dir() || mount.join("cpu").is_dir();
    let missing = || format!("no hierarchy at {}", mount.display());
    if version_1 { Ok("version 1".to_owned()) } else { Err(missing()) }
}

fn security_module(name: &str, list: std::io::Result<String>) -> Looked {
    let list = list.map_err(|_| "/sys/kernel/security/lsm cannot be read".to_owned())?;
    let list = list.trim();
    match list.split(',').any(|module| module == name) {
        true => Ok("enabled".to_owned()),
        false => Err(format!("not among the enabled security modules, {list}")),
    }
}

fn seccomp(actions: &str) -> Looked {
    match actions.trim() {
        "" => Err("the kernel names no actions of it".to_owned()),
        actions => Ok(format!("actions {actions}")),
    }
}

/// The kernel's modules, whether they are loaded, built in, or on disk.
struct Modules {
    loaded: String,
    listed: String,
    release: String,
}

impl Modules {
    fn of_this_kernel() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let folder = format!("/lib/modules/{release}");
        let listed =
            read(&format!("{folder}/modules.builtin")) + &read(&format!("{folder}/modules.dep"));
        Self { loaded: read("/proc/modules"), listed, release }
    }

    fn have(&self, name: &str) -> Looked {
        let is_it = |found: &str| found.replace('-', "_") == name;
        if self.loaded.lines().filter_map(|line| line.split(' ').next()).any(is_it) {
            return Ok("loaded".to_owned());
        }
        let files = self.listed.lines().map(|line| line.split(':').next().unwrap_or(line));
        let mut names = files.filter_map(|file| file.rsplit('/').next()?.split('.').next());
        match names.any(is_it) {
            true => Ok("available".to_owned()),
            false => Err(format!("not seen among the modules of kernel {}", self.release)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_wherever_it_is() {
        let modules = Modules {
            loaded: "nf_tables 1 2 - Live 0x0\n".into(),
            listed: "kernel/net/sched/sch_netem.ko.xz: kernel/a.ko\nkernel/fs/fuse.ko:\n".into(),
            release: "6.1".into(),
        };
        assert_eq!(modules.have("nf_tables"), Ok("loaded".into()));
        assert_eq!(modules.have("sch_netem"), Ok("available".into()));
        assert!(modules.have("netem").unwrap_err().contains("6.1"));
    }

    #[test]
    fn the_version_of_cgroups_is_told() {
        let mount = tempfile::tempdir().unwrap();
        assert!(cgroups(mount.path()).is_err());
        fs::create_dir(mount.path().join("memory")).unwrap();
        assert_eq!(cgroups(mount.path()), Ok("version 1".into()));
        fs::write(mount.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(cgroups(mount.path()), Ok("version 2, with cpu memory".into()));
    }

    #[test]
    fn security_modules_are_read_from_the_kernels_list() {
        let list = || Ok("capability,landlock,yama\n".to_owned());
        assert!(security_module("landlock", list()).is_ok());
        assert!(security_module("lock", list()).unwrap_err().contains("yama"));
        assert!(seccomp("kill_process allow\n").is_ok() && seccomp("").is_err());
    }
}
