//! The volume without FUSE: what is left by cuts, room, handles, numbers.

use super::*;

struct Bench {
    volume: Volume,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    Bench { volume: Volume::create(&folder.path().join("objects")).unwrap(), folder }
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// A file with a handle.
fn file(volume: &mut Volume, text: &str) -> (Ino, u64) {
    let ino = volume.create_file(ROOT, name(text), 0o644).unwrap().ino;
    (ino, volume.open(ino).unwrap())
}

fn errno(result: io::Result<impl std::fmt::Debug>) -> Option<Errno> {
    result.unwrap_err().raw_os_error().map(Errno::from_raw)
}

#[test]
fn a_new_file_needs_its_own_sync_and_its_directorys() {
    let Bench { mut volume, folder } = bench();
    let files: Vec<(Ino, u64)> =
        ["none", "content", "name", "both"].map(|text| file(&mut volume, text)).to_vec();
    for (ino, handle) in &files {
        volume.write(*ino, *handle, 0, b"data").unwrap();
    }
    let root = volume.open(ROOT).unwrap();
    volume.sync_file(files[3].0, files[3].1).unwrap();
    volume.sync_directory(ROOT, root).unwrap();
    let (late, handle) = file(&mut volume, "late");
    volume.write(late, handle, 0, b"data").unwrap();
    volume.sync_file(late, handle).unwrap();
    let report = volume.cut(Survival::Nothing).unwrap();
    volume.power_on();
    assert_eq!((report.files, report.lost_bytes, report.lost_names), (3, 12, 1));
    let sizes: Vec<(String, u64)> = volume
        .names(ROOT)
        .unwrap()
        .iter()
        .map(|(text, ino)| (text.to_str().unwrap().to_owned(), volume.about(*ino).unwrap().size))
        .collect();
    let wanted = [("both", 4), ("content", 0), ("name", 0), ("none", 0)];
    assert_eq!(sizes, wanted.map(|(text, size)| (text.to_owned(), size)));
    let objects = std::fs::read_dir(folder.path().join("objects")).unwrap().count();
    assert_eq!(objects, 4, "what has no name takes no space");
}

#[test]
fn the_same_seed_leaves_the_same_and_another_something_else() {
    let left = |seed| {
        let Bench { mut volume, folder: _folder } = bench();
        let (ino, handle) = file(&mut volume, "file");
        let root = volume.open(ROOT).unwrap();
        volume.sync_directory(ROOT, root).unwrap();
        for part in 0..20u8 {
            volume.write(ino, handle, u64::from(part) * 600, &[part; 600]).unwrap();
        }
        let report = volume.cut(Survival::Sectors { seed }).unwrap();
        volume.power_on();
        let handle = volume.open(ino).unwrap();
        (report, volume.read(ino, handle, 0, 1 << 20).unwrap())
    };
    assert_eq!(left(1), left(1));
    assert_ne!(left(1), left(2));
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites() {
    let Bench { mut volume, folder: _folder } = bench();
    let (ino, handle) = file(&mut volume, "file");
    volume.write(ino, handle, 0, &[1; 100]).unwrap();
    volume.limit(Some(50));
    assert_eq!(volume.write(ino, handle, 100, &[2; 80]).unwrap(), 50);
    assert_eq!(errno(volume.write(ino, handle, 150, &[2; 1])), Some(Errno::ENOSPC));
    assert_eq!(errno(volume.set_length(ino, 151)), Some(Errno::ENOSPC));
    assert_eq!(errno(volume.create_file(ROOT, name("more"), 0o644)), Some(Errno::ENOSPC));
    assert_eq!(volume.write(ino, handle, 10, &[3; 140]).unwrap(), 140);
    assert_eq!(volume.write(ino, handle, 149, &[3; 10]).unwrap(), 1);
    volume.set_length(ino, 20).unwrap();
    assert_eq!(errno(volume.write(ino, handle, 200, &[4; 1])), Some(Errno::ENOSPC));
    assert_eq!(volume.write(ino, handle, 20, &[4; 130]).unwrap(), 130);
    volume.limit(None);
    assert_eq!(volume.write(ino, handle, 150, &[5; 10]).unwrap(), 10);
    assert_eq!((volume.counts().refused, volume.counts().used), (4, 160));
}

#[test]
fn handles_from_before_a_cut_are_dead() {
    let Bench { mut volume, folder: _folder } = bench();
    let (ino, handle) = file(&mut volume, "file");
    let root = volume.open(ROOT).unwrap();
    volume.sync_directory(ROOT, root).unwrap();
    volume.cut(Survival::Nothing).unwrap();
    assert_eq!(errno(volume.lookup(ROOT, name("file"))), Some(Errno::EIO));
    assert_eq!(errno(volume.create_file(ROOT, name("new"), 0o644)), Some(Errno::EIO));
    assert_eq!(errno(volume.open(ino)), Some(Errno::EIO));
    volume.power_on();
    assert_eq!(errno(volume.write(ino, handle, 0, b"x")), Some(Errno::EIO));
    assert_eq!(errno(volume.sync_file(ino, handle)), Some(Errno::EIO));
    assert_eq!(errno(volume.read(ino, handle, 0, 1)), Some(Errno::EIO));
    volume.close(ino, handle).unwrap();
    let again = volume.open(ino).unwrap();
    volume.write(ino, again, 0, b"x").unwrap();
}

#[test]
fn a_removed_file_is_readable_while_open_and_back_after_a_cut() {
    let Bench { mut volume, folder } = bench();
    let (ino, handle) = file(&mut volume, "file");
    volume.write(ino, handle, 0, b"data").unwrap();
    volume.sync_file(ino, handle).unwrap();
    let root = volume.open(ROOT).unwrap();
    volume.sync_directory(ROOT, root).unwrap();
    volume.remove(ROOT, name("file"), false).unwrap();
    assert_eq!(errno(volume.lookup(ROOT, name("file"))), Some(Errno::ENOENT));
    assert_eq!(volume.read(ino, handle, 0, 9).unwrap(), b"data");
    volume.close(ino, handle).unwrap();
    volume.cut(Survival::Nothing).unwrap();
    volume.power_on();
    assert_eq!(volume.lookup(ROOT, name("file")).unwrap().size, 4);
    volume.remove(ROOT, name("file"), false).unwrap();
    let root = volume.open(ROOT).unwrap();
    volume.sync_directory(ROOT, root).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("objects")).unwrap().count(), 0);
}

#[test]
fn names_keep_the_rules() {
    let Bench { mut volume, folder: _folder } = bench();
    let dir = volume.create_directory(ROOT, name("dir"), 0o755).unwrap().ino;
    let inner = volume.create_file(dir, name("inner"), 0o644).unwrap().ino;
    assert_eq!(errno(volume.create_directory(ROOT, name("dir"), 0)), Some(Errno::EEXIST));
    assert_eq!(errno(volume.create_file(inner, name("x"), 0)), Some(Errno::ENOTDIR));
    assert_eq!(errno(volume.remove(ROOT, name("dir"), true)), Some(Errno::ENOTEMPTY));
    assert_eq!(errno(volume.remove(ROOT, name("dir"), false)), Some(Errno::EISDIR));
    assert_eq!(errno(volume.remove(dir, name("inner"), true)), Some(Errno::ENOTDIR));
    assert_eq!(errno(volume.rename((dir, name("none")), (ROOT, name("x")))), Some(Errno::ENOENT));
    volume.rename((dir, name("inner")), (ROOT, name("outer"))).unwrap();
    assert_eq!(volume.lookup(ROOT, name("outer")).unwrap().ino, inner);
    volume.rename((ROOT, name("outer")), (ROOT, name("outer"))).unwrap();
    volume.remove(ROOT, name("dir"), true).unwrap();
    assert_eq!(errno(volume.about(ROOT + 100)), Some(Errno::ENOENT));
}
