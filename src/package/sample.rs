//! For tests: image archives of both kinds, and a small package on any file tree.

use crate::host::{Root, Utf8Path};

use super::digest::Digest;
use super::{Package, build, model};

/// Builds a small package at `path`: the programs of a node as a few bytes each, and these images, each with a layer of its own above
/// a shared one.
///
/// # Panics
/// When the tree fails: it is a test's.
pub fn package(root: &Root, path: &str, version: u64, images: &[&str]) -> Package {
    let source = Utf8Path::new("/source");
    let put = |name: &str, bytes: &[u8]| root.put(source.join(name), 0o755, bytes).map(drop).expect("placed");
    root.remove_all(source).map(drop).expect("removed");
    let about = format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: Package\nversion: {version}\nkubernetesVersion: v1.36.3\narchitecture: {}\n",
        super::machine_architecture()
    );
    put("package.yaml", about.as_bytes());
    for program in ["bin/kube", "bin/containerd", "bin/ctr", "cni/bin/bridge"] {
        put(&format!("files/{program}"), format!("{program} of version {version}").as_bytes());
    }
    root.link(source.join("files/bin/kubelet"), "kube").map(drop).expect("linked");
    for (number, name) in images.iter().enumerate() {
        let layer = format!("{name} of version {version}");
        let archive = oci_archive(&[(name, &[b"shared", layer.as_bytes()])], super::machine_architecture());
        put(&format!("images/{number}.tar"), &archive);
    }
    root.make_dirs(Utf8Path::new(path).parent().expect("a parent"), 0o755).map(drop).expect("made");
    build::build(root, source, Utf8Path::new(path), None).expect("built")
}

/// Bytes that do not compress, always the same.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

fn archive_of(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        builder.append_data(&mut build::plain_header(content.len() as u64), name, content.as_slice()).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

fn image_config(layers: &[&[u8]], architecture: &str) -> Vec<u8> {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    model::render(&serde_json::json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}))
}

/// An OCI archive of images: names and layers.
pub fn oci_archive(images: &[(&str, &[&[u8]])], architecture: &str) -> Vec<u8> {
    let mut entries = vec![("oci-layout".to_owned(), model::OCI_LAYOUT.as_bytes().to_vec())];
    let mut manifests = Vec::new();
    for (name, layers) in images {
        let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| layer.to_vec()).collect();
        let config = image_config(layers, architecture);
        let manifest = model::render(&serde_json::json!({
            "schemaVersion": 2, "mediaType": model::MANIFEST_MEDIA_TYPE,
            "config": {"mediaType": model::IMAGE_CONFIG_MEDIA_TYPE, "digest": Digest::of(&config), "size": config.len()},
            "layers": blobs.iter().map(|blob| serde_json::json!({"mediaType": model::LAYER_MEDIA_TYPE, "digest": Digest::of(blob), "size": blob.len()})).collect::<Vec<_>>(),
        }));
        manifests.push(serde_json::json!({
            "mediaType": model::MANIFEST_MEDIA_TYPE, "digest": Digest::of(&manifest), "size": manifest.len(),
            "annotations": {super::ANNOTATION_IMAGE_NAME: name},
        }));
        entries.extend([config, manifest].into_iter().chain(blobs).map(|blob| (Digest::of(&blob).blob_path(), blob)));
    }
    entries.push(("index.json".to_owned(), model::render(&serde_json::json!({"schemaVersion": 2, "manifests": manifests}))));
    archive_of(&entries)
}

/// As `docker save` of old writes it, and as the images of Kubernetes' server tarballs are: several images, layers shared by name.
pub fn docker_archive(images: &[(&str, &[&[u8]])], architecture: &str) -> Vec<u8> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let mut manifest = Vec::new();
    for (name, layers) in images {
        let config = image_config(layers, architecture);
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let places: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", Digest::of(layer).hex())).collect();
        manifest.push(serde_json::json!({"Config": config_name, "RepoTags": [name], "Layers": places}));
        entries.push((config_name, config));
        for (place, layer) in places.into_iter().zip(*layers) {
            if !entries.iter().any(|(known, _)| *known == place) {
                entries.push((place, layer.to_vec()));
            }
        }
    }
    entries.push(("manifest.json".to_owned(), model::render(&manifest)));
    archive_of(&entries)
}
