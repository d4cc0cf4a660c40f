//! One image for several machines, as an OCI image layout in an archive (OCI image spec, "Image Layout"): a node takes its own from an
//! index. Made of the same files it is the same to the byte, and has the same digest.
//!
//! Docker's own store reads no such layout, so `manifest.json` names the same blobs as `docker save` would (Docker image spec, "Combined
//! Image JSON + Filesystem Changeset Format"); containerd, Podman and skopeo do not need it.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Image, sha256, write_archive};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Image {
    /// Writes these images, of one name and each for another machine, as one. Gives its digest, by which registries and nodes know it.
    ///
    /// # Errors
    /// If two are for one machine, there are none, the name has no tag, a file cannot be read, or the archive cannot be written.
    pub fn oci_archive(images: &[Image], to: impl Write) -> Result<String> {
        let mut layout = Layout::default();
        let mut machines = BTreeMap::new();
        for image in images {
            ensure!(
                machines.insert(image.architecture, layout.add(image)?).is_none(),
                "{} twice for {}",
                image.name,
                image.architecture
            );
        }
        ensure!(!machines.is_empty(), "no image");
        let (first, alone) = (&images[0], images.len() == 1);
        let tag = first.name.rsplit('/').next().and_then(|last| last.split_once(':'));
        let Some((_, tag)) = tag else { anyhow::bail!("`{}` has no tag, as `pepo:1`", first.name) };
        let manifests: Vec<_> = machines.values().map(|one| one.manifest.clone()).collect();
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": first.labels,
        });
        let mut entry = layout.blob(INDEX, index.to_string().into_bytes());
        let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
        entry["annotations"] =
            json!({"io.containerd.image.name": first.name, "org.opencontainers.image.ref.name": tag});
        let saved: Vec<_> = machines
            .iter()
            .map(|(machine, one)| {
                let name = if alone { first.name.clone() } else { format!("{}-{machine}", first.name) };
                json!({"Config": path(&one.config), "RepoTags": [name], "Layers": [path(&one.layer)]})
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        layout.files.insert("index.json".to_owned(), index.to_string().into_bytes());
        layout.files.insert("manifest.json".to_owned(), json!(saved).to_string().into_bytes());
        layout.files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let files: Vec<_> =
            layout.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        write_archive(to, &files)?;
        Ok(digest)
    }
}

/// Descriptors of one machine's image.
struct Machine {
    manifest: Value,
    config: Value,
    layer: Value,
}

/// The files of a layout by their names.
#[derive(Default)]
struct Layout {
    files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    fn add(&mut self, image: &Image) -> Result<Machine> {
        let layer = image.layer()?;
        let config = self.blob(CONFIG, image.config(&sha256(&layer)));
        let layer = self.blob(LAYER, layer);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
            "annotations": image.labels,
        });
        let mut manifest = self.blob(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"architecture": image.architecture, "os": "linux"});
        Ok(Machine { manifest, config, layer })
    }

    /// Keeps a blob, and describes it.
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let descriptor = json!({
            "mediaType": media_type, "digest": format!("sha256:{}", sha256(&bytes)), "size": bytes.len(),
        });
        self.files.insert(path(&descriptor), bytes);
        descriptor
    }
}

/// Where a blob lies.
fn path(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// An image whose program is text, for a machine.
    fn image(architecture: &'static str, name: &str) -> Image {
        let image = Image::new(name).text("/pepo", architecture).label("a", "b").command(&["/pepo"]);
        Image { architecture, ..image }
    }

    fn both(name: &str) -> (Vec<u8>, String) {
        let mut archive = Vec::new();
        let digest = Image::oci_archive(&[image("arm64", name), image("amd64", name)], &mut archive).unwrap();
        (archive, digest)
    }

    #[test]
    fn each_machine_has_its_own_manifest_and_every_blob_is_what_its_name_says() {
        let (archive, digest) = both("registry:5000/pepo:1");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("blobs/")) {
            assert_eq!(*name, format!("blobs/sha256/{}", sha256(bytes)));
        }
        let read = |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap();
        let of = |descriptor: &Value| {
            assert_eq!(descriptor["size"], files[&path(descriptor)].len());
            read(&path(descriptor))
        };
        let entry = &read("index.json")["manifests"][0];
        assert_eq!(entry["digest"], digest);
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
        let index = of(entry);
        let saved = read("manifest.json");
        assert_eq!(index["annotations"], json!({"a": "b"}));
        for (at, machine) in ["amd64", "arm64"].iter().enumerate() {
            let one = &index["manifests"][at];
            assert_eq!(one["platform"], json!({"architecture": machine, "os": "linux"}));
            let manifest = of(one);
            let config = of(&manifest["config"]);
            assert_eq!(config["architecture"], *machine);
            let layer = &files[&path(&manifest["layers"][0])];
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(layer)));
            assert!(layer.windows(machine.len()).any(|bytes| bytes == machine.as_bytes()));
            assert_eq!(saved[at]["RepoTags"][0], format!("registry:5000/pepo:1-{machine}"));
            assert_eq!(saved[at]["Config"], path(&manifest["config"]));
        }
    }

    #[test]
    fn the_same_files_make_the_same_archive_and_what_is_no_image_is_refused() {
        assert!(both("pepo:1") == both("pepo:1"));
        assert_ne!(both("pepo:1").1, {
            let other = [image("arm64", "pepo:1"), image("amd64", "pepo:1").text("/more", "x")];
            Image::oci_archive(&other, std::io::sink()).unwrap()
        });
        let refused = |images: &[Image]| Image::oci_archive(images, std::io::sink()).unwrap_err().to_string();
        assert!(refused(&[image("arm64", "pepo:1"), image("arm64", "pepo:1")]).contains("twice for arm64"));
        assert!(refused(&[image("arm64", "registry:5000/pepo")]).contains("has no tag"));
        assert!(refused(&[]).contains("no image"));
    }
}
