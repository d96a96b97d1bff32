// Command archive writes container images, one archive a file, without a
// registry and without a container runtime.
//
// It reads a description (JSON) of layers and images and writes for each image
// an OCI archive (or, with --docker, an archive as `docker save` and the
// official Kubernetes server tarballs have it). Layers are uncompressed, so
// that one static binary is one blob, and deterministic: the same inputs give
// the same bytes. A layer named by several images has the same digest in all of
// them; keep it first, since an unpacked layer is shared only above the same
// layers.
//
//	archive --description images.json --files DIR --output DIR [--docker]
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Description is the whole of what the caller wishes.
type Description struct {
	Architecture string           `json:"architecture"`
	Layers       map[string]Layer `json:"layers"`
	Images       []Image          `json:"images"`
}

// Layer is one of: files and links, or an existing tar which is taken entry by
// entry (with times and owners' names removed).
type Layer struct {
	Files map[string]string `json:"files,omitempty"` // path in the image -> path below --files
	Links map[string]string `json:"links,omitempty"` // path in the image -> target
	Dirs  []string          `json:"dirs,omitempty"`  // empty directories
	Tar   string            `json:"tar,omitempty"`   // path below --files
	Drop  []string          `json:"drop,omitempty"`  // beginnings of names in Tar that are left out
}

// Image is one archive.
type Image struct {
	Name       string   `json:"name"` // full, with registry and tag
	File       string   `json:"file"` // below --output
	Layers     []string `json:"layers"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
}

type blob struct {
	digest string // hex
	size   int64
	file   string // content, when it is on disk
	bytes  []byte // content, when it is small
}

func main() {
	description := flag.String("description", "", "the images to write (JSON)")
	files := flag.String("files", ".", "folder that the description's files lie in")
	output := flag.String("output", ".", "folder that receives the archives")
	docker := flag.Bool("docker", false, "write docker archives instead of OCI archives")
	flag.Parse()
	if err := run(*description, *files, *output, *docker); err != nil {
		fmt.Fprintln(os.Stderr, "archive:", err)
		os.Exit(1)
	}
}

func run(description, files, output string, docker bool) error {
	text, err := os.ReadFile(description)
	if err != nil {
		return err
	}
	var wish Description
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wish); err != nil {
		return fmt.Errorf("%s: %w", description, err)
	}
	if err := os.MkdirAll(output, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(output, ".layers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	layers := map[string]blob{}
	for _, name := range sortedKeys(wish.Layers) {
		made, err := makeLayer(wish.Layers[name], files, filepath.Join(scratch, name))
		if err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		layers[name] = made
	}
	write := writeOCI
	if docker {
		write = writeDocker
	}
	for _, image := range wish.Images {
		var stack []blob
		for _, name := range image.Layers {
			layer, ok := layers[name]
			if !ok {
				return fmt.Errorf("image %s: there is no layer %q", image.Name, name)
			}
			stack = append(stack, layer)
		}
		config := imageConfig(image, wish.Architecture, stack)
		place := filepath.Join(output, image.File)
		if err := writeWhole(place, func(w io.Writer) error { return write(w, image, config, stack) }); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
	}
	return nil
}

// makeLayer writes the layer's tar to place and digests it on the way.
func makeLayer(layer Layer, files, place string) (blob, error) {
	file, err := os.Create(place)
	if err != nil {
		return blob{}, err
	}
	defer file.Close()
	hash := sha256.New()
	counted := &counter{}
	archive := tar.NewWriter(io.MultiWriter(file, hash, counted))
	if layer.Tar != "" {
		err = copyEntries(archive, filepath.Join(files, layer.Tar), layer.Drop)
	}
	if err == nil {
		err = addEntries(archive, layer, files)
	}
	if err == nil {
		err = archive.Close()
	}
	if err == nil {
		err = file.Close()
	}
	return blob{digest: hex.EncodeToString(hash.Sum(nil)), size: counted.size, file: place}, err
}

func addEntries(archive *tar.Writer, layer Layer, files string) error {
	entries := map[string]func() error{}
	folders := func(name string) {
		for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
			entries[dir+"/"] = func() error { return archive.WriteHeader(header(dir+"/", tar.TypeDir, 0o755, 0)) }
		}
	}
	for name, from := range layer.Files {
		name = strings.TrimPrefix(name, "/")
		folders(name)
		entries[name] = func() error { return addFile(archive, name, filepath.Join(files, from)) }
	}
	for name, target := range layer.Links {
		name = strings.TrimPrefix(name, "/")
		folders(name)
		entries[name] = func() error {
			link := header(name, tar.TypeSymlink, 0o777, 0)
			link.Linkname = target
			return archive.WriteHeader(link)
		}
	}
	for _, name := range layer.Dirs {
		name = strings.Trim(name, "/") + "/"
		folders(strings.TrimSuffix(name, "/"))
		entries[name] = func() error { return archive.WriteHeader(header(name, tar.TypeDir, 0o755, 0)) }
	}
	// A folder sorts before what lies in it.
	for _, name := range sortedKeys(entries) {
		if err := entries[name](); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func addFile(archive *tar.Writer, name, from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(header(name, tar.TypeReg, plainMode(about.Mode()), about.Size())); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// copyEntries takes another tar's entries, without what differs from run to run.
func copyEntries(archive *tar.Writer, from string, drop []string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	source := tar.NewReader(file)
	for {
		entry, err := source.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(entry.Name, "./")
		if name == "" || hasAnyPrefix(name, drop) || entry.Typeflag == tar.TypeChar || entry.Typeflag == tar.TypeBlock {
			continue
		}
		plain := header(name, entry.Typeflag, entry.Mode, entry.Size)
		plain.Linkname = entry.Linkname
		if entry.Typeflag == tar.TypeLink {
			plain.Linkname = strings.TrimPrefix(entry.Linkname, "./")
		}
		plain.Uid, plain.Gid = entry.Uid, entry.Gid
		if err := archive.WriteHeader(plain); err != nil {
			return err
		}
		if _, err := io.Copy(archive, source); err != nil {
			return err
		}
	}
}

func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func imageConfig(image Image, architecture string, layers []blob) blob {
	ids := make([]string, len(layers))
	history := make([]map[string]any, len(layers))
	for i, layer := range layers {
		ids[i] = "sha256:" + layer.digest
		history[i] = map[string]any{"created": epoch, "created_by": "edgeboot image/go/archive"}
	}
	run := map[string]any{"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	if len(image.Entrypoint) > 0 {
		run["Entrypoint"] = image.Entrypoint
	}
	if image.User != "" {
		run["User"] = image.User
	}
	if image.WorkingDir != "" {
		run["WorkingDir"] = image.WorkingDir
	}
	return inMemory(map[string]any{
		"created":      epoch,
		"architecture": architecture,
		"os":           "linux",
		"config":       run,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": ids},
		"history":      history,
	})
}

const epoch = "1970-01-01T00:00:00Z"

// writeOCI writes an OCI image layout as a tar.
func writeOCI(w io.Writer, image Image, config blob, layers []blob) error {
	manifest := map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        descriptor("application/vnd.oci.image.config.v1+json", config),
	}
	stack := make([]any, len(layers))
	for i, layer := range layers {
		stack[i] = descriptor("application/vnd.oci.image.layer.v1.tar", layer)
	}
	manifest["layers"] = stack
	document := inMemory(manifest)
	entry := descriptor("application/vnd.oci.image.manifest.v1+json", document)
	entry["annotations"] = map[string]string{
		"io.containerd.image.name":          image.Name,
		"org.opencontainers.image.ref.name": image.Name[strings.LastIndex(image.Name, ":")+1:],
	}
	index := inMemory(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.index.v1+json",
		"manifests":     []any{entry},
	})

	entries := map[string]blob{
		"oci-layout": inMemory(map[string]any{"imageLayoutVersion": "1.0.0"}),
		"index.json": index,
	}
	for _, content := range append([]blob{config, document}, layers...) {
		entries["blobs/sha256/"+content.digest] = content
	}
	return writeArchive(w, entries, "blobs/", "blobs/sha256/")
}

// writeDocker writes what `docker save` wrote before it turned to OCI layouts:
// manifest.json names configuration and layers, repositories the topmost one.
func writeDocker(w io.Writer, image Image, config blob, layers []blob) error {
	entries := map[string]blob{config.digest + ".json": config}
	var folders, places []string
	parent := ""
	for _, layer := range layers {
		sum := sha256.Sum256([]byte(parent + " " + layer.digest))
		id := hex.EncodeToString(sum[:])
		about := map[string]any{"id": id, "os": "linux"}
		if parent != "" {
			about["parent"] = parent
		}
		entries[id+"/VERSION"] = blob{bytes: []byte("1.0"), size: 3}
		entries[id+"/json"] = inMemory(about)
		entries[id+"/layer.tar"] = layer
		folders = append(folders, id+"/")
		places = append(places, id+"/layer.tar")
		parent = id
	}
	split := strings.LastIndex(image.Name, ":")
	entries["manifest.json"] = inMemory([]any{map[string]any{
		"Config": config.digest + ".json", "RepoTags": []string{image.Name}, "Layers": places,
	}})
	entries["repositories"] = inMemory(map[string]any{
		image.Name[:split]: map[string]string{image.Name[split+1:]: parent},
	})
	return writeArchive(w, entries, folders...)
}

func writeArchive(w io.Writer, entries map[string]blob, folders ...string) error {
	archive := tar.NewWriter(w)
	names := append(sortedKeys(entries), folders...)
	sort.Strings(names)
	for _, name := range names {
		content, isFile := entries[name]
		if !isFile {
			if err := archive.WriteHeader(header(name, tar.TypeDir, 0o755, 0)); err != nil {
				return err
			}
			continue
		}
		if content.file != "" {
			if err := addFile(archive, name, content.file); err != nil {
				return err
			}
			continue
		}
		if err := archive.WriteHeader(header(name, tar.TypeReg, 0o644, content.size)); err != nil {
			return err
		}
		if _, err := archive.Write(content.bytes); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeWhole never leaves a half-written archive under its final name.
func writeWhole(place string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(place), ".archive-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), place)
}

func descriptor(mediaType string, content blob) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": "sha256:" + content.digest, "size": content.size}
}

func inMemory(document any) blob {
	text, err := json.Marshal(document) // maps are written in the order of their keys
	if err != nil {
		panic(err) // only maps, strings and numbers come here
	}
	sum := sha256.Sum256(text)
	return blob{digest: hex.EncodeToString(sum[:]), size: int64(len(text)), bytes: text}
}

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

type counter struct{ size int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return len(p), nil
}

// plainMode makes the result independent of the builder's umask.
func plainMode(mode os.FileMode) int64 {
	if mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

func hasAnyPrefix(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
