-- The health of a Registry for Argo CD: resource.customizations.health.berth.dev_Registry in the ConfigMap argocd-cm.
-- Without it Argo CD knows no health for the kind, and the next sync wave starts before the Registry serves.
local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = "Suspended by spec.suspend" }
end
-- A status of an older spec says nothing about this one.
if obj.status.observedGeneration == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
local ready
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.reason .. ": " .. condition.message }
  end
  if condition.type == "Ready" then
    ready = condition
  end
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Reconciling" and condition.status == "True" then
    return { status = "Progressing", message = condition.message }
  end
end
if ready ~= nil then
  if ready.status == "True" or ready.reason == "ScaledToZero" then
    return { status = "Healthy", message = ready.message }
  end
  health.message = ready.message
end
return health
