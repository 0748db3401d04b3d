package main

import (
	"context"
	"fmt"
	"os"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// What a variable may be called: a real kubelet leaves out what `envFrom` brings under other names.
var variableName = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// environment is what the container's process is started with.
func (c *container) environment(ctx context.Context, image image) (map[string]string, error) {
	object := c.w.object()
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"), "HOSTNAME": object.Name,
		// The API server itself: nothing routes the addresses of Services.
		"KUBERNETES_SERVICE_HOST": gateway, "KUBERNETES_SERVICE_PORT": "6443", "KUBERNETES_SERVICE_PORT_HTTPS": "6443",
	}
	for name, value := range image.Env {
		env[name] = value
	}
	if image.Path != "" {
		env["PATH"] = image.Path + ":" + env["PATH"]
	}
	for _, from := range c.spec.EnvFrom {
		if err := c.environmentFrom(ctx, from, env); err != nil {
			return nil, err
		}
	}
	for _, variable := range c.spec.Env {
		value, found, err := c.variable(ctx, variable, env)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		if found {
			env[variable.Name] = value
		}
	}
	return env, nil
}

func (c *container) environmentFrom(ctx context.Context, from corev1.EnvFromSource, env map[string]string) error {
	namespace := c.w.object().Namespace
	api := c.w.k.client.CoreV1()
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		found, err := api.ConfigMaps(namespace).Get(ctx, from.ConfigMapRef.Name, getOptions)
		if err != nil {
			return unlessOptional(err, from.ConfigMapRef.Optional)
		}
		data = found.Data
	case from.SecretRef != nil:
		found, err := api.Secrets(namespace).Get(ctx, from.SecretRef.Name, getOptions)
		if err != nil {
			return unlessOptional(err, from.SecretRef.Optional)
		}
		for name, value := range found.Data {
			data[name] = string(value)
		}
	}
	for name, value := range data {
		if variableName.MatchString(from.Prefix + name) {
			env[from.Prefix+name] = value
		}
	}
	return nil
}

// variable is one value, and whether there is one at all.
func (c *container) variable(ctx context.Context, variable corev1.EnvVar, env map[string]string) (string, bool, error) {
	namespace := c.w.object().Namespace
	api := c.w.k.client.CoreV1()
	from := variable.ValueFrom
	switch {
	case from == nil:
		return expansion.Expand(variable.Value, expansion.MappingFuncFor(env)), true, nil
	case from.FieldRef != nil:
		value, err := c.w.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		found, err := api.Secrets(namespace).Get(ctx, ref.Name, getOptions)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		value, ok := found.Data[ref.Key]
		return string(value), ok, unlessThere(ok, ref.Optional, "Secret", ref.Name, ref.Key)
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		found, err := api.ConfigMaps(namespace).Get(ctx, ref.Name, getOptions)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		value, ok := found.Data[ref.Key]
		return value, ok, unlessThere(ok, ref.Optional, "ConfigMap", ref.Name, ref.Key)
	case from.ResourceFieldRef != nil:
		// Nothing is limited here, so there is nothing true to say but what the node has.
		return "0", true, nil
	}
	return "", false, nil
}

// field is what the downward API says, also before the API server knows the pod's address.
func (w *worker) field(path string) (string, error) {
	w.mu.Lock()
	object, ip := w.pod, w.net.ip
	w.mu.Unlock()
	switch path {
	case "spec.nodeName":
		return object.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return object.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return gateway, nil
	case "status.podIP", "status.podIPs":
		return ip, nil
	}
	return fieldpath.ExtractFieldPathAsString(object, path)
}

func unlessOptional(err error, optional *bool) error {
	if notFound(err) && deref(optional) {
		return nil
	}
	return err
}

func unlessThere(there bool, optional *bool, kind, name, key string) error {
	if there || deref(optional) {
		return nil
	}
	return fmt.Errorf("the %s %s has no key %s", kind, name, key)
}
