//! A disk whose power can be cut: ext4 on a loop-mounted image. What has not reached the image has not
//! reached the disk. Needs root and loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub struct LoopDisk {
    dir: TempDir,
    image: PathBuf,
    mount: PathBuf,
    cuts: usize,
}

impl LoopDisk {
    /// Says why this machine cannot have one.
    pub fn create(mib: u64) -> Result<LoopDisk, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (image, mount) = (dir.path().join("image.0"), dir.path().join("mount"));
        std::fs::create_dir(&mount).map_err(|e| e.to_string())?;
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(mib << 20).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", path(&image)])?;
        let disk = LoopDisk {
            dir,
            image,
            mount,
            cuts: 0,
        };
        disk.mount()?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<(), String> {
        run(
            "mount",
            &["-o", "loop", path(&self.image), path(&self.mount)],
        )
    }

    /// Copies the image as it is at one instant, proved by a second copy that is the same.
    pub fn snapshot(&mut self) -> Result<PathBuf, String> {
        self.cuts += 1;
        let copy = self.dir.path().join(format!("image.{}", self.cuts));
        for _ in 0..50 {
            run("cp", &["--sparse=always", path(&self.image), path(&copy)])?;
            if run("cmp", &["-s", path(&self.image), path(&copy)]).is_ok() {
                return Ok(copy);
            }
        }
        Err("the image does not come to rest".to_owned())
    }

    /// Mounts a snapshot in the disk's place. Nobody may have a file of it open any more.
    pub fn restore(&mut self, snapshot: PathBuf) -> Result<(), String> {
        run("umount", &[path(&self.mount)])?;
        std::fs::remove_file(&self.image).map_err(|e| e.to_string())?;
        self.image = snapshot;
        self.mount()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", path(&self.mount)]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", text.trim()))
        }
    }
}

/// A small disk in memory that fills up quickly. Needs root.
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    pub fn create(mib: u64) -> Result<Tmpfs, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let size = format!("size={mib}m");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &size, "tmpfs", path(dir.path())],
        )?;
        Ok(Tmpfs { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Octets.
    pub fn free(&self) -> u64 {
        fs2::available_space(self.dir.path()).expect("the disk")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", path(self.dir.path())]);
    }
}
