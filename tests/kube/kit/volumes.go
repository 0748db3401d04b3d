package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// makeVolumes makes each volume a folder. They are filled once: a ConfigMap that changes later, or a token that comes to
// its end, is not followed; no test lives as long as a token.
func (w *worker) makeVolumes(ctx context.Context) error {
	paths := map[string]string{}
	for _, volume := range w.object().Spec.Volumes {
		path, err := w.makeVolume(ctx, volume)
		if err != nil {
			return fmt.Errorf("%s: %w", volume.Name, err)
		}
		paths[volume.Name] = path
	}
	w.mu.Lock()
	w.volumes = paths
	w.mu.Unlock()
	return nil
}

func (w *worker) makeVolume(ctx context.Context, volume corev1.Volume) (string, error) {
	object := w.object()
	path := filepath.Join(w.dir, "volumes", volume.Name)
	var files map[string][]byte
	var err error
	switch {
	case volume.HostPath != nil:
		return hostPath(volume.HostPath)
	case volume.PersistentVolumeClaim != nil:
		// Shared by name, as their storage would be.
		path = w.k.o.at("claims", object.Namespace+"_"+volume.PersistentVolumeClaim.ClaimName)
	case volume.NFS != nil:
		path = w.k.o.at("nfs", volume.NFS.Server, volume.NFS.Path)
	case volume.ConfigMap != nil:
		files, err = w.configMap(ctx, volume.ConfigMap.Name, volume.ConfigMap.Items, volume.ConfigMap.Optional)
	case volume.Secret != nil:
		files, err = w.secret(ctx, volume.Secret.SecretName, volume.Secret.Items, volume.Secret.Optional)
	case volume.DownwardAPI != nil:
		files, err = w.downward(volume.DownwardAPI.Items)
	case volume.Projected != nil:
		files, err = w.projected(ctx, volume.Projected.Sources)
	case volume.EmptyDir != nil:
	default:
		err = fmt.Errorf("the kit has no volumes of this kind")
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return "", err
	}
	for name, text := range files {
		file := filepath.Join(path, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return "", err
		}
	}
	return path, nil
}

func hostPath(source *corev1.HostPathVolumeSource) (string, error) {
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	if kind == corev1.HostPathUnset || kind == corev1.HostPathDirectoryOrCreate {
		if _, err := os.Stat(source.Path); err == nil {
			return source.Path, nil
		}
		return source.Path, os.MkdirAll(source.Path, 0o755)
	}
	_, err := os.Stat(source.Path)
	return source.Path, err
}

func (w *worker) projected(ctx context.Context, sources []corev1.VolumeProjection) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, source := range sources {
		var files map[string][]byte
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			files, err = w.token(ctx, source.ServiceAccountToken)
		case source.ConfigMap != nil:
			files, err = w.configMap(ctx, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional)
		case source.Secret != nil:
			files, err = w.secret(ctx, source.Secret.Name, source.Secret.Items, source.Secret.Optional)
		case source.DownwardAPI != nil:
			files, err = w.downward(source.DownwardAPI.Items)
		default:
			err = fmt.Errorf("the kit has no projection of this kind")
		}
		if err != nil {
			return nil, err
		}
		for name, text := range files {
			all[name] = text
		}
	}
	return all, nil
}

// token is one of the pod's service account, for the audience and the time that are asked for.
func (w *worker) token(ctx context.Context, source *corev1.ServiceAccountTokenProjection) (map[string][]byte, error) {
	object := w.object()
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef:    &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: object.Name, UID: object.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	accounts := w.k.client.CoreV1().ServiceAccounts(object.Namespace)
	made, err := accounts.CreateToken(ctx, object.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{source.Path: []byte(made.Status.Token)}, nil
}

func (w *worker) configMap(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (map[string][]byte, error) {
	found, err := w.k.client.CoreV1().ConfigMaps(w.object().Namespace).Get(ctx, name, getOptions)
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	data := map[string][]byte{}
	for key, text := range found.Data {
		data[key] = []byte(text)
	}
	for key, bytes := range found.BinaryData {
		data[key] = bytes
	}
	return pick(data, items, optional, "ConfigMap", name)
}

func (w *worker) secret(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (map[string][]byte, error) {
	found, err := w.k.client.CoreV1().Secrets(w.object().Namespace).Get(ctx, name, getOptions)
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return pick(found.Data, items, optional, "Secret", name)
}

// pick takes the keys that are asked for under the paths that are asked for; all of them where none is.
func pick(data map[string][]byte, items []corev1.KeyToPath, optional *bool, kind, name string) (map[string][]byte, error) {
	if len(items) == 0 {
		return data, nil
	}
	picked := map[string][]byte{}
	for _, item := range items {
		bytes, ok := data[item.Key]
		if err := unlessThere(ok, optional, kind, name, item.Key); err != nil {
			return nil, err
		}
		if ok {
			picked[item.Path] = bytes
		}
	}
	return picked, nil
}

func (w *worker) downward(items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, item := range items {
		if item.FieldRef == nil {
			files[item.Path] = []byte("0")
			continue
		}
		text, err := w.field(item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		files[item.Path] = []byte(text)
	}
	return files, nil
}
